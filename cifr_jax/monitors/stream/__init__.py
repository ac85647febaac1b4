"""Bets against accounts while their traffic comes in."""
