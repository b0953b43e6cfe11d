"""`python -m toolchain` is the command `toolchain`."""

from toolchain.cli import main

if __name__ == "__main__":
    main()
