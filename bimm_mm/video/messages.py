"""What the process that decodes and the one that asks it tell each other."""

import pickle
from multiprocessing.connection import Connection


def send(connection: Connection, message: object) -> None:
    """As the connection's own ``send``, which sets up a pickler of Python's for each message."""
    connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


def receive(connection: Connection) -> object:
    """The next message of :func:`send`."""
    return pickle.loads(connection.recv_bytes())
