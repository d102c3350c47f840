-- One row per study, event, measure, window and audience: what the open build estimated at shops.
{{ of_open_build('shop_effect') }}
