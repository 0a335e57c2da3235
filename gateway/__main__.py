"""`python -m gateway`."""

from .cli import main

main()
