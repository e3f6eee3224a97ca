"""SQLite: schema, migrations, one writer, and the queries for history. Prompt and answer text never get here."""
