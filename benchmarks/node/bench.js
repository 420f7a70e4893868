// Prints what the JavaScript originals cost, in ns by operation: the same class, props and labels
// as in ../ours.py, the fastest of many short turns.
const { createTracer, setTraceFunction, clearTraceFunction } = require('hypertrace')
const HypertracePrometheus = require('hypertrace-prometheus')

const ROUNDS = 200
const CALLS = 500

class App {
  constructor () {
    this.tracer = createTracer(this, { props: { topic: 'all' } })
  }
}

class Swarm {
  constructor (app) {
    this.tracer = createTracer(this, { props: { topic: 'news' }, parent: app.tracer })
  }

  connect () {
    this.tracer.trace()
  }

  connectWithId () {
    this.tracer.trace('connect')
  }

  connectWithProp () {
    this.tracer.trace({ topic: 'sports' })
  }

  make () {
    return new Swarm(this.app)
  }
}

const off = new Swarm(new App())
setTraceFunction(HypertracePrometheus({ allowedProps: ['topic'], collectDefaults: false }))
const on = new Swarm(new App())
on.app = new App()

const operations = {
  off: () => off.connect(),
  trace: () => on.connect(),
  'trace(id)': () => on.connectWithId(),
  'trace(prop)': () => on.connectWithProp(),
  make: () => on.make()
}

const best = {}
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, operation] of Object.entries(operations)) {
    const start = process.hrtime.bigint()
    for (let call = 0; call < CALLS; call++) operation()
    const each = Number(process.hrtime.bigint() - start) / CALLS
    best[name] = Math.min(best[name] ?? Infinity, each)
  }
}
clearTraceFunction()
console.log(JSON.stringify(best))
