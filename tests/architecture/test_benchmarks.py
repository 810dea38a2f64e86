"""The benchmarks make the gateway's parts by hand: they must still fit."""

from benchmarks.order_layers import WHO, Bench
from gateway.ids import new_id
from gateway.orders.states import Status
from gateway.stores.memory import MemoryLedger, MemoryState
from middleware.clock import SystemClock


async def test_the_layers_of_an_order_can_still_be_measured() -> None:
    clock = SystemClock()
    ledger = MemoryLedger(MemoryState(clock), clock=clock, who=WHO, lease_s=60.0, new_holder=new_id)
    await ledger.open()
    bench = Bench(ledger)
    await bench.store(1)
    await bench.place(2)
    await bench.handle(3)
    assert (await ledger.counts()).by_status[Status.CONFIRMED] == 3
    await ledger.close()
