-- One row per general holiday of Hong Kong, Sundays left out, with its name.
select
    day,
    min(name) as name
from {{ source('ops', 'general_holiday') }}
group by day
