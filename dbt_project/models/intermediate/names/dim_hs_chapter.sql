-- One row per chapter of the Harmonized System, and one for all of them together.
{{ code_names('hs_chapter', 'hs_chapter') }}
