"""``python -m actome``."""

from .cli import main

main()
