-- Persons: individuals, known by the pseudonyms of their HKID numbers. Only loader and builder may read who is who.
create table if not exists ops.pseudonym_alias (
    pseudonym text primary key,
    oldest text not null
);
comment on table ops.pseudonym_alias is 'Pseudonyms made under a later key, with that of the same value under the oldest key that was held then.';

create table if not exists ops.pseudonym_key (
    version integer primary key,
    check_value text not null,
    known_since timestamptz not null default clock_timestamp()
);
comment on table ops.pseudonym_key is 'One row per version of the key of pseudonyms: a value that only that key gives, by which another key under the same version is refused.';

create table if not exists ops.person (
    oldest text primary key,
    sme_id text not null unique default 'sme_' || left(md5(gen_random_uuid()::text), 16)
);
comment on table ops.person is 'One row per individual: its oldest pseudonym, and a random sme_id that nothing outside this table leads to.';

create or replace view ops.person_pseudonym as
select
    alias.pseudonym,
    person.sme_id
from ops.pseudonym_alias as alias
inner join ops.person as person on alias.oldest = person.oldest
union all
select
    person.oldest,
    person.sme_id
from ops.person as person
where not exists (select from ops.pseudonym_alias as alias where alias.pseudonym = person.oldest);
comment on view ops.person_pseudonym is 'sme_id of each pseudonym of an individual, of every version of the key.';
grant select on ops.pseudonym_alias, ops.person, ops.person_pseudonym to sampan_builder;
grant insert on ops.person to sampan_builder;
