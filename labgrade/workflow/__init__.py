"""What GitHub Classroom's workflow consists of: files that labgrade.classroom copies. Nothing imports them."""
