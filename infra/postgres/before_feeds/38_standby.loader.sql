-- Whether this server is a standby that may lack a revocation of more than five minutes ago: it has replayed nothing since, and
-- cannot say that there was nothing (no primary is connected, or what came from it waits). Always false on a primary.
create or replace function ops.is_behind() returns boolean
language plpgsql volatile security definer parallel unsafe set search_path = pg_catalog, pg_temp as $$
begin
    if not pg_is_in_recovery() then
        return false;
    end if;
    return coalesce(pg_last_xact_replay_timestamp() < clock_timestamp() - interval '5 minutes', true)
        and not coalesce(
            (select r.pid is not null from pg_stat_get_wal_receiver() as r)
            and pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn(),
            false
        );
end $$;
comment on function ops.is_behind() is 'Whether this server is a standby more than five minutes behind: it shows banks nothing.';
