"""Entry point of the Bazel tests: pytest on the file that the arguments name."""

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(["-n0", "-p", "no:cacheprovider", *sys.argv[1:]]))
