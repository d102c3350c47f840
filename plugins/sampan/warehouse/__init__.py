"""What `sampan init` creates in a database: roles, schemas, the tables of every feed, calendars."""
