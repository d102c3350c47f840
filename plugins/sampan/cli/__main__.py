"""`python -m sampan.cli`: the `sampan` command without its script."""

from sampan.cli.app import main

main()
