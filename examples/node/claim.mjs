// Ask channeld for a claim, believe none unverified, keep the best. The steps of channeld.client, verified by xrpl.js.
//
//   channeld sandbox stage --out stage.json &
//   npm ci && node claim.mjs stage.json 1500 [id]

import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import mqtt from 'mqtt'
import { Client, dropsToXrp, verifyPaymentChannelClaim } from 'xrpl'

const [stageFile, drops = '1500', id = randomUUID()] = process.argv.slice(2)
const stage = JSON.parse(fs.readFileSync(stageFile, 'utf8'))
const KEPT = process.env.CLAIMS ?? 'claims.json'
const REPEAT_MS = 2000
const DEADLINE_MS = 60_000
const RIPPLE_EPOCH_S = 946_684_800
const MIN_SETTLE_DELAY_S = 600
const MIN_LIFE_S = 3600

class Refused extends Error {}
class Lie extends Error {}

const must = (good, what) => {
  if (!good) throw new Lie(what)
}

// --- the file: what was bought and the best claim of each channel, on disk before anything is served ------------------

const load = () => (fs.existsSync(KEPT) ? JSON.parse(fs.readFileSync(KEPT, 'utf8')) : { asked: {}, slices: {}, best: {} })

function save(kept) {
  const file = fs.openSync(`${KEPT}.new`, 'w', 0o600)
  fs.writeSync(file, JSON.stringify(kept, null, 1))
  fs.fsyncSync(file)
  fs.closeSync(file)
  fs.renameSync(`${KEPT}.new`, KEPT)
  const folder = fs.openSync('.', 'r')
  fs.fsyncSync(folder)
  fs.closeSync(folder)
}

// --- asking: the same id with the same contents until there is an answer ----------------------------------------------

function ask(client, request) {
  const topic = `channeld/v1/servers/${stage.server}`
  return new Promise((resolve, reject) => {
    let timer
    const send = () => {
      const properties = { responseTopic: `${topic}/reply/${client.options.clientId}` }
      client.publish(`${topic}/claim`, JSON.stringify(request), { qos: 1, properties })
      timer = setTimeout(send, REPEAT_MS)
    }
    const deadline = setTimeout(() => done(reject, new Refused('no answer: unknown; ask the same id again')), DEADLINE_MS)
    const done = (end, value) => {
      clearTimeout(timer)
      clearTimeout(deadline)
      end(value)
    }
    client.on('message', (_, payload) => {
      const reply = JSON.parse(payload.toString('utf8'))
      if (reply.id !== request.id) return
      if (reply.status === 'accepted') done(resolve, reply)
      else if (reply.retry_after_ms === undefined) done(reject, new Refused(`${reply.code}: ${reply.reason}`))
      else {
        clearTimeout(timer)
        timer = setTimeout(send, reply.retry_after_ms)
      }
    })
    client.subscribe(`${topic}/reply/${client.options.clientId}`, { qos: 1 }, (error) => (error ? done(reject, error) : send()))
  })
}

// --- verifying --------------------------------------------------------------------------------------------------------

function checkAnswer(reply, kept) {
  const { claim, covers } = reply
  const [from, to, amount] = [covers.from, covers.to, claim.amount].map(BigInt)
  must(reply.drops === drops, 'another amount was granted than asked for')
  must(to - from === BigInt(drops), 'the slice is not as large as what was granted')
  must(amount >= to, 'the claim is below the end of its slice')
  must(reply.destination_account === stage.payee && reply.destination_tag == null, 'the answer names another payee')
  must(claim.public_key.toUpperCase() === stage.public_key, 'the public key is not the pinned one')
  // xrpl.js takes XRP here, not drops
  const xrp = String(dropsToXrp(claim.amount))
  must(verifyPaymentChannelClaim(claim.channel_id, xrp, claim.signature, claim.public_key), 'the signature does not verify')
  for (const [otherId, start, end] of kept.slices[claim.channel_id] ?? []) {
    must(otherId === reply.id || to <= BigInt(start) || BigInt(end) <= from, 'the slice was sold before')
  }
}

async function checkChannel(reply, node) {
  const { claim } = reply
  const request = { command: 'ledger_entry', payment_channel: claim.channel_id, ledger_index: 'validated' }
  const { result } = await node.request(request).catch((error) => {
    throw new Lie(`no validated ledger has the channel: ${error.message}`)
  })
  const channel = result.node
  const now = Math.floor(Date.now() / 1000) - RIPPLE_EPOCH_S
  must(result.validated === true, 'the node has no validated ledger')
  must(channel.Account === stage.payer && channel.Account === reply.source_account, 'another account pays')
  must(channel.Destination === stage.payee && channel.DestinationTag === undefined, 'the channel pays another payee')
  must(channel.PublicKey.toUpperCase() === stage.public_key, 'the channel has another public key')
  must(BigInt(channel.Amount) >= BigInt(claim.amount), 'the claim is above what the channel holds')
  must(channel.Expiration === undefined, 'the channel is closing')
  must(channel.CancelAfter === undefined || channel.CancelAfter - now >= MIN_LIFE_S, 'the channel ends soon')
  must(channel.SettleDelay >= MIN_SETTLE_DELAY_S, 'a close would leave too little time')
}

function keep(reply, kept) {
  const { channel_id: channel, amount } = reply.claim
  const slices = (kept.slices[channel] ??= [])
  if (!slices.some(([otherId]) => otherId === reply.id)) slices.push([reply.id, reply.covers.from, reply.covers.to])
  if (BigInt(amount) > BigInt(kept.best[channel]?.amount ?? 0)) kept.best[channel] = reply.claim
  delete kept.asked[reply.id]
  save(kept)
}

// --- all of it --------------------------------------------------------------------------------------------------------

const kept = load()
const request = (kept.asked[id] ??= {
  id,
  payee: stage.payee,
  drops,
  user: 'u-17',
  not_after: Math.ceil((Date.now() + DEADLINE_MS) / 1000),
})
save(kept) // before it is sent: a second life must not send this id with other contents

const clientId = `node-${randomUUID()}`
const broker = await mqtt.connectAsync(stage.mqtt, { protocolVersion: 5, clientId })
broker.stream.setNoDelay?.(true)
const node = new Client(stage.ledger)
await node.connect()
try {
  const reply = await ask(broker, request)
  checkAnswer(reply, kept)
  await checkChannel(reply, node)
  keep(reply, kept)
  console.log(JSON.stringify({ sold_for: reply.drops, replayed: reply.replayed, claim: reply.claim }))
} catch (error) {
  console.error(`${error.constructor.name}: ${error.message}`)
  process.exitCode = 1
} finally {
  await broker.endAsync()
  await node.disconnect()
}
