"""stub"""
class StreamedSplit:
    pass
