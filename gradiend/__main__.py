"""`python -m gradiend` is the `gradiend` command."""

from gradiend.cli import main

main()
