"""What the published programs returned, and the weights and pictures that they ran on."""

from pathlib import Path

GOLDEN = Path(__file__).parent
