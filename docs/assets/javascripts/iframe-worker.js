/* Browsers start no worker from a file. Where a page is opened without a server, run the search in a hidden frame. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.queued = []
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.frame.srcdoc = "<!doctype html><title>search</title>"
      this.frame.addEventListener("load", () => this.start(new URL(url, location.href).href), { once: true })
      if (document.body) document.body.append(this.frame)
      else addEventListener("DOMContentLoaded", () => document.body.append(this.frame), { once: true })
    }

    start(url) {
      const inside = this.frame.contentWindow
      const load = name => new Promise((done, failed) => {
        const script = inside.document.createElement("script")
        script.src = new URL(name, url).href
        script.onload = () => done()
        script.onerror = failed
        inside.document.head.append(script)
      })
      inside.importScripts = (...names) => names.reduce((before, name) => before.then(() => load(name)), Promise.resolve())
      inside.postMessage = data => this.say(data)
      load(url).then(() => {
        this.loaded = inside
        this.queued.splice(0).forEach(data => this.postMessage(data))
      })
    }

    say(data) {
      const event = new MessageEvent("message", { data })
      this.dispatchEvent(event)
      if (this.onmessage) this.onmessage(event)
    }

    postMessage(data) {
      if (this.loaded) this.loaded.dispatchEvent(new MessageEvent("message", { data }))
      else this.queued.push(data)
    }

    terminate() {
      this.frame.remove()
    }
  }
}
