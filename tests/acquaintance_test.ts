/** What is remembered of a host between logins, and when it is not used. */

import assert from "node:assert/strict";
import { Acquaintance, type Lesson, type Refusal } from "../lib/acquaintance.ts";

const hostKey = Uint8Array.of(1);
const lesson: Lesson = {
  keyExchange: "curve25519-sha256",
  hostKey,
  login: { methods: ["password"], key: undefined, isEnough: false },
};

/** A host that has let us in once. */
function known(): Acquaintance {
  const acquaintance = new Acquaintance();
  acquaintance.onReady(lesson, { isTaken: false });
  return acquaintance;
}

/** Whether the next attempt sends something ahead. */
function hurries(acquaintance: Acquaintance): boolean {
  const { isCautious, keyExchange, loginWith } = acquaintance.begin();
  assert.equal(keyExchange === undefined, isCautious);
  assert.equal(loginWith(hostKey) === undefined, isCautious);
  return !isCautious;
}

Deno.test("a login says nothing of a host with another key", () => {
  const foresight = known().begin();
  assert.deepEqual(foresight.loginWith(hostKey), lesson.login);
  assert.equal(foresight.loginWith(Uint8Array.of(2)), undefined);
});

Deno.test("by another way a host lets people in alike, but what it agrees on is open", () => {
  const within = new Acquaintance();
  within.introduce(new Acquaintance());
  assert.equal(within.begin().loginWith(hostKey), undefined);
  within.introduce(known());
  assert.deepEqual(within.begin().loginWith(hostKey), lesson.login);
  assert.equal(within.begin().keyExchange, undefined);
  // What it has shown itself counts more.
  const own = { ...lesson, login: { ...lesson.login, methods: ["publickey"] } };
  within.onReady(own, { isTaken: true });
  within.introduce(known());
  assert.deepEqual(within.begin().loginWith(hostKey), own.login);
  assert.equal(within.begin().keyExchange, lesson.keyExchange);
});

const habits: [Refusal, times: number][] = [
  ["refused", 1],
  ["unanswered", 2],
  ["unidentified", 4],
];

for (const [refusal, times] of habits) {
  Deno.test(`a host is ${refusal} ${times} times in a row before nothing is sent ahead any more`, () => {
    const acquaintance = known();
    for (let count = 0; count < times; count++) {
      assert.ok(hurries(acquaintance));
      acquaintance.onRefused(refusal);
      assert.ok(!hurries(acquaintance));
      acquaintance.onReady(lesson, { isTaken: false });
    }
    assert.ok(!hurries(acquaintance));
  });
}

Deno.test("what was taken since counts for a host that has failed before", () => {
  const acquaintance = known();
  for (let count = 0; count < 10; count++) {
    acquaintance.onRefused("unanswered");
    assert.ok(!hurries(acquaintance));
    acquaintance.onReady(lesson, { isTaken: false });
    assert.ok(hurries(acquaintance));
    acquaintance.onReady(lesson, { isTaken: true });
  }
});

Deno.test("a host that changes its algorithms now and then is no worse for it", () => {
  const acquaintance = known();
  for (let count = 0; count < 10; count++) {
    assert.ok(hurries(acquaintance));
    acquaintance.onRefused("changed");
    assert.ok(!hurries(acquaintance));
    assert.ok(!hurries(acquaintance));
    acquaintance.onReady(lesson, { isTaken: false });
  }
});

Deno.test("a long time in which a host is not reached, with care or without, says nothing of it", () => {
  const acquaintance = known();
  for (let count = 0; count < 10; count++) {
    assert.ok(hurries(acquaintance));
    acquaintance.onRefused("unidentified");
    assert.ok(!hurries(acquaintance));
  }
  assert.ok(hurries(acquaintance));
  acquaintance.onRefused("unidentified");
  assert.ok(!hurries(acquaintance));
  acquaintance.onReady(lesson, { isTaken: false });
  assert.ok(hurries(acquaintance));
});

Deno.test("a host that is not reached is met as before after one attempt with care", () => {
  const acquaintance = known();
  acquaintance.onRefused("unidentified");
  assert.ok(!hurries(acquaintance));
  assert.ok(hurries(acquaintance));
});
