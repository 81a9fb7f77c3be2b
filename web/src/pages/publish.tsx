// `/publish`: microphone, camera or screen into the mesh, with a meter, and who hears it.
import { render } from "preact";
import { PolledAnnouncements } from "../components/announcements";
import { Desk } from "../components/desk";
import { Header } from "../components/header";
import { Air } from "../components/on-air";
import { useZone } from "../hooks/polling";
import { usePublication } from "../hooks/publication";

const NEWS_MS = 5_000;

function Publish() {
  const publication = usePublication();
  const zone = useZone();
  return (
    <>
      <Header zone={zone} page="Publish" />
      <PolledAnnouncements everyMs={NEWS_MS} />
      <main class="publish">
        {publication.blocked && (
          <p class="warning" role="alert">
            {publication.blocked}
          </p>
        )}
        <Desk publication={publication} />
        <Air publication={publication} />
      </main>
    </>
  );
}

render(<Publish />, document.getElementById("page")!);
