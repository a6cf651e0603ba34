"""The SDK of a training client: one call submits an update and returns the mean of the round."""

from secagg.client.asynchronous import AsyncClient
from secagg.client.blocking import Client
from secagg.client.progress import Progress, RoundResult

__all__ = ["AsyncClient", "Client", "Progress", "RoundResult"]
