"""`python -m gradiend` is the `gradiend` command."""

from gradiend.cli import main

if __name__ == "__main__":
    main()
