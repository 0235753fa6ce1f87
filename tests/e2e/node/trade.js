// Plays the calls it reads from standard input, in order, and prints the last answer.
//   {"address": …, "token": …, "descriptors": path, "steps": [[method, body], …]}
// "$trade" in a body is the name that CreateTrade answered.
"use strict";
const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const order = JSON.parse(fs.readFileSync(0, "utf-8"));
const contracts = loader.loadFileDescriptorSetFromBuffer(fs.readFileSync(order.descriptors), {
  longs: String,
  enums: String,
});
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${order.token}`);

function serviceAt(packages, name) {
  return name.split(".").reduce((inside, part) => inside[part], packages);
}

async function play() {
  const packages = grpc.loadPackageDefinition(contracts);
  const clients = new Map();
  let trade = "";
  let answer = null;
  for (const [method, body] of order.steps) {
    const [service, call] = method.split("/");
    if (!clients.has(service)) {
      const Client = serviceAt(packages, service);
      clients.set(service, new Client(order.address, grpc.credentials.createInsecure()));
    }
    const request = body.name === "$trade" ? { ...body, name: trade } : body;
    const deadline = new Date(Date.now() + 20_000);
    answer = await new Promise((resolve, reject) => {
      clients.get(service)[call](request, metadata, { deadline }, (failure, reply) =>
        failure ? reject(failure) : resolve(reply),
      );
    });
    if (call === "CreateTrade") {
      trade = answer.name;
    }
  }
  for (const client of clients.values()) {
    client.close();
  }
  process.stdout.write(JSON.stringify(answer));
}

play().catch((failure) => {
  process.stderr.write(`${failure.stack}\n`);
  process.exitCode = 1;
});
