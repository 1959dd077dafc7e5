"""`python -m channeld` is the command `channeld`."""

from channeld.cli import main

if __name__ == "__main__":
    main()
