"""What must be deleted, and what may be handed on: retention, compaction, transfers."""
