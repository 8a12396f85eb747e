"""How much longer the time limits of tests are than those of production."""

TIME_LIMIT_SCALE = 10.0
