"""What is checked of numbers."""


def check_counts(**numbers: int | None) -> None:
    """Refuse numbers below 1; None is none.

    Raises:
        ValueError: One is below 1.
    """
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f'{name} must be at least 1, not {number}')
