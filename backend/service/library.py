from backend.settings import Settings
class Library:
    def __init__(self, settings: Settings) -> None: ...
    def get(self, name: str): raise NotImplementedError
    def names(self) -> list[str]: return []
