"""The time between a gateway's being told to stop and its stopping."""


class Drain:
    """While it lasts, the gateway answers everything, says that it is not ready, and ends each connection with its
    answer, so that balancers and clients have gone elsewhere by the time it takes no more.
    """

    def __init__(self) -> None:
        self.began = False

    def begin(self) -> None:
        self.began = True
