"""SQLite: samples, health changes, inference records, and the questions asked of them."""
