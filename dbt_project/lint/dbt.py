"""What dbt's cross-database macros look like to the linter, which reads the models without dbt or a database."""


def dateadd(datepart: str, interval: int, from_date_or_timestamp: str) -> str:
    """A date moved by an interval."""
    return f"date_add({from_date_or_timestamp}, {interval}, '{datepart}')"


def date_trunc(datepart: str, date: str) -> str:
    """A date cut down to the start of its month, year, ..."""
    return f"date_trunc('{datepart}', {date})"


def last_day(date: str, datepart: str) -> str:
    """The last day of a date's month, year, ..."""
    return f"last_day({date}, '{datepart}')"


def concat(fields: list[str]) -> str:
    """Texts put together."""
    return " || ".join(fields)


def hash(field: str) -> str:  # noqa: A001 - dbt's name
    """A digest in hexadecimal."""
    return f"md5({field})"


def datediff(first_date: str, second_date: str, datepart: str) -> str:
    """How many days, months, ... lie between two dates."""
    return f"datediff('{datepart}', {first_date}, {second_date})"


def listagg(measure: str, delimiter_text: str, order_by_clause: str) -> str:
    """The values of several rows in one text."""
    return f"string_agg({measure}, {delimiter_text} {order_by_clause})"


def type_float() -> str:
    """The type of numbers with binary fractions."""
    return "double precision"


def type_string() -> str:
    """The type of texts."""
    return "text"


def string_literal(value: str) -> str:
    """A text in quotes."""
    return f"'{value}'"


def escape_single_quotes(expression: str) -> str:
    """What stands between the quotes of a text."""
    return expression.replace("'", "''")
