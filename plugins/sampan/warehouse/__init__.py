"""What `sampan init` makes of a database: roles, schemas, the tables of every feed, calendars."""
