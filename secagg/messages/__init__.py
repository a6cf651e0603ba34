"""The messages of both protocols, as frozen values; the codec turns them into the wire's and back."""
