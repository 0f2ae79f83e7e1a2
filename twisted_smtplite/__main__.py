"""``python -m twisted_smtplite``: the program `smtplite`."""

from .app.cli import main

main()
