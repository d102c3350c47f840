-- What left the platform, to whom and under which contract. Applied as sampan_loader after 60_disclosure; safe to apply again.
create table if not exists ops.gba_city (
    city text primary key
);
comment on table ops.gba_city is 'Where a party to the GBA Standard Contract may be: Hong Kong and the nine Mainland cities of the Greater Bay Area.';
insert into ops.gba_city (city) values ('Hong Kong'), ('Guangzhou'), ('Shenzhen'), ('Zhuhai'), ('Foshan'), ('Huizhou'),
    ('Dongguan'), ('Zhongshan'), ('Jiangmen'), ('Zhaoqing') on conflict do nothing;

create table if not exists ops.transfer_contract (
    contract_no text primary key,
    recipient text not null,
    recipient_city text not null,
    bank_id text check (bank_id ~ '^B[0-9]{3}$'),
    purpose text not null,
    marts text[] not null check (cardinality(marts) > 0),
    valid_from date not null,
    valid_to date not null,
    assessment_no text,
    assessed_on date,
    filed_on date,
    entered_by text not null,
    entered_at timestamptz not null default clock_timestamp(),
    constraint ends_after_start check (valid_to >= valid_from),
    constraint assessment_has_a_day check ((assessment_no is null) = (assessed_on is null))
);
comment on table ops.transfer_contract is 'Standard contracts under which data leave the platform. What changes in purpose, recipient or data is a new contract.';
comment on column ops.transfer_contract.assessment_no is 'Personal information protection impact assessment, made before the first transfer; null while there is none.';
comment on column ops.transfer_contract.filed_on is 'Day on which the contract was filed, due 10 business days after it takes effect; null until it was. Said once.';
comment on column ops.transfer_contract.bank_id is 'Bank whose consents let credit features through, where the recipient is one.';

create table if not exists ops.transfer (
    transfer_id bigint generated always as identity primary key,
    contract_no text not null references ops.transfer_contract,
    mart text not null,
    release_no bigint not null,
    recipient text not null,
    recipient_city text not null references ops.gba_city (city),
    purpose text not null,
    consent_ids text[],
    rows bigint not null check (rows >= 0),
    bytes bigint not null,
    content_sha256 text not null check (content_sha256 ~ '^[0-9a-f]{64}$'),
    target text not null,
    shared_by text not null,
    begun_at timestamptz not null default clock_timestamp(),
    done_at timestamptz
);
comment on table ops.transfer is 'The register: one row per data set that left, written before it does. Rows are never changed but for done_at, nor deleted.';
comment on column ops.transfer.consent_ids is 'Consents under which the rows went, where they went under consents.';
comment on column ops.transfer.done_at is 'When the target held the data in full; null when that is not known, and then it counts as left.';

create or replace function ops.keep_the_register() returns trigger
language plpgsql set search_path = pg_catalog as $$
begin
    if tg_op = 'UPDATE' and to_jsonb(new) - 'done_at' = to_jsonb(old) - 'done_at' and old.done_at is null then
        return new;
    end if;
    raise exception 'the register of transfers is not changed' using errcode = 'integrity_constraint_violation';
end $$;
create or replace trigger register_is_kept before update or delete on ops.transfer
for each row execute function ops.keep_the_register();

grant select on ops.transfer, ops.transfer_contract, ops.gba_city to sampan_builder;
