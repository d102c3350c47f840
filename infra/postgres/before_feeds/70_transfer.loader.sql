-- Data transfers out of the platform: to whom, and under which agreement.
create table if not exists ops.gba_city (
    city text primary key
);
comment on table ops.gba_city is 'Cities where a party to the GBA Standard Contract may be: Hong Kong and the nine Mainland cities of the Greater Bay Area.';
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
comment on table ops.transfer_contract is 'Agreements (GBA Standard Contracts) that allow data transfers. A new purpose, recipient or data set needs a new agreement.';
comment on column ops.transfer_contract.assessment_no is 'Number of the personal information protection impact assessment, due before the first transfer; null until it is made.';
comment on column ops.transfer_contract.filed_on is 'Day on which the agreement was filed, due within 10 business days of taking effect; null until then. Set once.';
comment on column ops.transfer_contract.bank_id is 'If the recipient is a bank: the bank whose consents allow credit features to be transferred.';

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
comment on table ops.transfer is 'Register of transfers: one row per data set, written before the data leaves. Only done_at is ever updated; no row is deleted.';
comment on column ops.transfer.consent_ids is 'Consents that the transferred rows are based on; null for published tables.';
comment on column ops.transfer.done_at is 'When the target had all the data; null when that is not known, in which case it counts as transferred.';

create or replace function ops.keep_the_register() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if tg_op = 'UPDATE' and to_jsonb(new) - 'done_at' = to_jsonb(old) - 'done_at' and old.done_at is null then
        return new;
    end if;
    raise exception 'rows of the register of transfers cannot be changed or deleted' using errcode = 'integrity_constraint_violation';
end $$;
create or replace trigger register_is_kept before update or delete on ops.transfer
for each row execute function ops.keep_the_register();

grant select on ops.transfer, ops.transfer_contract, ops.gba_city to sampan_builder;
