/** A home router's port mapping, on a host of its own: `RouterProgram.ts ADDRESS PCP|NAT-PMP|UPnP OUTSIDE`. */
import { PORT_CONTROL_PORT } from "../../src/domain/protocol/PortControl.ts"
import { ControlRouter, UpnpRouter } from "../layers/Routers.ts"

const [address = "", protocol, outside = ""] = process.argv.slice(2)

if (protocol === "UPnP") {
  const router = await UpnpRouter.start({ outside }, address)
  await router.announce()
} else {
  await ControlRouter.start({ speaks: protocol === "PCP" ? ["PCP"] : ["NAT-PMP"], outside }, address, PORT_CONTROL_PORT)
}
process.stdout.write("ready\n")
