"""``python -m relprop`` is the command line."""

from relprop.cli import main

if __name__ == "__main__":
    main()
