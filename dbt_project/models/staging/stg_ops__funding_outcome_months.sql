-- One row per measure, group of programmes, length of the windows and month before or after: what the open build estimated.
{{ of_open_build('funding_outcome_month') }}
