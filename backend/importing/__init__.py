"""From what other programs write to Tributary's runs: ``tributary import`` and ``tributary export``."""
