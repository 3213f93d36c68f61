"""`python -m studylib`."""

from studylib.cli import main

main()
