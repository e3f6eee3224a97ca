"""The vocabulary: frozen dataclasses and pure functions. No input, no output, no third party but msgspec."""
