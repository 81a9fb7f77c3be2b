// A page that publishes a picture which moves, without a camera.

/** Publishes what a drawn canvas of 1280x720 shows, with these `sendEncodings`; in that codec, or in the browser's own choice. */
export function publishDrawing(page, name, sendEncodings, codec) {
  return page.evaluate(
    async ([name, sendEncodings, codec]) => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 1280, height: 720 });
      const drawing = canvas.getContext("2d");
      let frame = 0;
      window.drawn = setInterval(() => {
        frame += 1;
        drawing.fillStyle = `hsl(${frame % 360} 80% 50%)`;
        drawing.fillRect(0, 0, 1280, 720);
        drawing.fillStyle = "white";
        drawing.fillRect((frame * 7) % 1280, 100, 200, 500);
      }, 40);
      const sender = new RTCPeerConnection();
      const [track] = canvas.captureStream(25).getVideoTracks();
      const transceiver = sender.addTransceiver(track, { direction: "sendonly", sendEncodings });
      if (codec) {
        const { codecs } = RTCRtpSender.getCapabilities("video");
        const rank = (one) => (one.mimeType === `video/${codec}` ? 0 : 1);
        transceiver.setCodecPreferences(codecs.toSorted((a, b) => rank(a) - rank(b)));
      }
      await sender.setLocalDescription();
      const answer = await fetch(`/whip/${name}`, {
        method: "POST",
        headers: { "Content-Type": "application/sdp" },
        body: sender.localDescription.sdp,
      });
      if (answer.status !== 201) throw new Error(await answer.text());
      await sender.setRemoteDescription({ type: "answer", sdp: await answer.text() });
      window.sender = sender;
    },
    [name, sendEncodings, codec],
  );
}
