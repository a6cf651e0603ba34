"""`secagg doctor`: looks at one party's set-up from outside, changes nothing, and says what to do."""
