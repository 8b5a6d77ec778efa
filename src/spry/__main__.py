"""The command, as ``python -m spry``."""

from spry.cli import main

if __name__ == "__main__":
    main()
