"""Who is who: numbers decide, names propose, people settle what is uncertain."""
