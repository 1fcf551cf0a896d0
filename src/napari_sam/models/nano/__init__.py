"""nano, the small model that ships in the wheel."""
