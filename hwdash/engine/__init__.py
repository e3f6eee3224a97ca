"""Prompts to tokens: workers and their supervision, models on disk. Only ``engine.worker`` imports torch."""
