"""``python -m gateway``: the same as ``ordergate``."""

from gateway.cli import main

if __name__ == "__main__":
    main()
