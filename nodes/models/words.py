"""What the texts that people write into rules and tokens are."""

from django.core.exceptions import ValidationError


def validate_words(text: str) -> None:
    """Printable characters, without blanks at the ends."""
    if not text.isprintable() or text != text.strip():
        raise ValidationError("printable characters, without blanks at the ends")
