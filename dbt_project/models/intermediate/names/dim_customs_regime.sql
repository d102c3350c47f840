-- One row per customs supervision code of the Mainland under which shops sell.
{{ code_names('customs_regime', 'customs_regime') }}
