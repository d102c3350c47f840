-- One row per day with a rate of each batch: Hong Kong dollars per unit, rid of floating point noise (6 decimals).
with deliveries as (
    select * from {{ source('raw', 'hkma_exchange_rates') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.end_of_day,
        round(deliveries.usd, 6) as hkd_per_usd,
        round(deliveries.gbp, 6) as hkd_per_gbp,
        round(deliveries.jpy, 6) as hkd_per_jpy,
        round(deliveries.cad, 6) as hkd_per_cad,
        round(deliveries.aud, 6) as hkd_per_aud,
        round(deliveries.sgd, 6) as hkd_per_sgd,
        round(deliveries.twd, 6) as hkd_per_twd,
        round(deliveries.chf, 6) as hkd_per_chf,
        round(deliveries.cny, 6) as hkd_per_cny,
        round(deliveries.krw, 6) as hkd_per_krw,
        round(deliveries.thb, 6) as hkd_per_thb,
        round(deliveries.myr, 6) as hkd_per_myr,
        round(deliveries.dem, 6) as hkd_per_dem,
        round(deliveries.nlg, 6) as hkd_per_nlg,
        round(deliveries.bef, 6) as hkd_per_bef,
        round(deliveries.frf, 6) as hkd_per_frf,
        round(deliveries.itl, 6) as hkd_per_itl,
        round(deliveries.eur, 6) as hkd_per_eur,
        round(deliveries.php, 6) as hkd_per_php,
        round(deliveries.inr, 6) as hkd_per_inr,
        round(deliveries.idr, 6) as hkd_per_idr,
        round(deliveries.zar, 6) as hkd_per_zar,
        round(deliveries.special_drawing_rights, 6) as hkd_per_special_drawing_rights,
        round(deliveries.neeri_1983_trade_wgt, 6) as neeri_1983_trade_wgt,
        round(deliveries.neeri_1983_import_wgt, 6) as neeri_1983_import_wgt,
        round(deliveries.neeri_1983_export_wgt, 6) as neeri_1983_export_wgt,
        round(deliveries.neeri_2000_trade_wgt, 6) as neeri_2000_trade_wgt,
        round(deliveries.neeri_2000_import_wgt, 6) as neeri_2000_import_wgt,
        round(deliveries.neeri_2000_export_wgt, 6) as neeri_2000_export_wgt,
        round(deliveries.neeri_2010_trade_wgt, 6) as neeri_2010_trade_wgt,
        round(deliveries.neeri_2010_import_wgt, 6) as neeri_2010_import_wgt,
        round(deliveries.neeri_2010_export_wgt, 6) as neeri_2010_export_wgt,
        round(deliveries.neeri_2020_trade_wgt, 6) as neeri_2020_trade_wgt,
        round(deliveries.neeri_2020_import_wgt, 6) as neeri_2020_import_wgt,
        round(deliveries.neeri_2020_export_wgt, 6) as neeri_2020_export_wgt,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
